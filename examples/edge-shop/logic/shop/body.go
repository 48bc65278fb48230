package shop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The least and the most that an order may have.
const (
	linesMax    = 20
	quantityMax = 100
	secondsMax  = 3600
	centsMax    = 100_000_000
)

// Line is so many of one product.
type Line struct {
	Product  string `json:"product"`
	Quantity uint32 `json:"quantity"`
}

// Credentials are what somebody signs in with.
type Credentials struct {
	User     string
	Password string
	Seconds  uint32
}

// ReadCredentials reads the body of a sign-in.
func ReadCredentials(body []byte) (Credentials, *Problem) {
	sent := struct {
		User     *string `json:"user"`
		Password *string `json:"password"`
		Seconds  *int64  `json:"seconds"`
	}{}
	if problem := read(body, &sent); problem != nil {
		return Credentials{}, problem
	}
	if sent.User == nil || sent.Password == nil {
		return Credentials{}, invalid("`user` and `password` are needed")
	}
	seconds := int64(secondsMax)
	if sent.Seconds != nil {
		seconds = *sent.Seconds
	}
	if seconds < 0 || seconds > secondsMax {
		return Credentials{}, invalid("`seconds` must be a whole number from 0 to %d", secondsMax)
	}
	return Credentials{*sent.User, *sent.Password, uint32(seconds)}, nil
}

// ReadOrder reads the body of an order. Whether there are such products, the database knows.
func ReadOrder(body []byte) ([]Line, *Problem) {
	sent := struct {
		Lines []struct {
			Product  string `json:"product"`
			Quantity int64  `json:"quantity"`
		} `json:"lines"`
	}{}
	if problem := read(body, &sent); problem != nil {
		return nil, problem
	}
	if len(sent.Lines) < 1 || len(sent.Lines) > linesMax {
		return nil, invalid("`lines` must be a list of 1 to %d lines", linesMax)
	}
	lines := make([]Line, 0, len(sent.Lines))
	for i, line := range sent.Lines {
		if line.Product == "" {
			return nil, invalid("line %d: `product` is needed", i+1)
		}
		if line.Quantity < 1 || line.Quantity > quantityMax {
			return nil, invalid("line %d: `quantity` must be a whole number from 1 to %d", i+1, quantityMax)
		}
		lines = append(lines, Line{line.Product, uint32(line.Quantity)})
	}
	return lines, nil
}

// ReadPrice reads the body of a change of price.
func ReadPrice(body []byte) (uint32, *Problem) {
	sent := struct {
		Cents *int64 `json:"cents"`
	}{}
	if problem := read(body, &sent); problem != nil {
		return 0, problem
	}
	if sent.Cents == nil || *sent.Cents < 1 || *sent.Cents > centsMax {
		return 0, invalid("`cents` must be a whole number from 1 to %d", centsMax)
	}
	return uint32(*sent.Cents), nil
}

// read decodes one JSON object without members that nobody reads.
func read(body []byte, into any) *Problem {
	if !json.Valid(body) {
		return &Problem{Status: 400, Code: "not-json", Message: "the body is not JSON"}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && err != io.EOF {
		return invalid("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func invalid(format string, args ...any) *Problem {
	return &Problem{Status: 422, Code: "invalid-body", Message: fmt.Sprintf(format, args...)}
}
