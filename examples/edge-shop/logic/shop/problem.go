package shop

// Problem ends a request with an error.
type Problem struct {
	Status  uint16
	Code    string // for programs
	Message string // for people
	Details map[string]any
	Headers map[string]string
}

// Body is what the client gets, to be written as JSON.
func (problem *Problem) Body() map[string]any {
	body := map[string]any{"error": problem.Code, "message": problem.Message}
	for key, value := range problem.Details {
		body[key] = value
	}
	return body
}

// Failed is a failure that is not the client's.
func Failed(cause string) *Problem {
	return &Problem{Status: 500, Code: "failed", Message: cause}
}

// Challenge is a 401 (RFC 6750, section 3). The code is empty where no token was sent.
func Challenge(code, message string) *Problem {
	header := "Bearer"
	if code == "" {
		code = "no-token"
	} else {
		header = `Bearer error="invalid_token"`
	}
	return &Problem{
		Status:  401,
		Code:    code,
		Message: message,
		Headers: map[string]string{"www-authenticate": header},
	}
}
