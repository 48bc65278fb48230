// Package router finds the route for a path.
//
// A pattern is a path whose segments are literal (`orders`), a parameter (`{id}`, exactly one segment) or, at the
// end, the rest of the path (`{path...}`, at least one segment). It knows nothing of WebAssembly.
package router

import (
	"slices"
	"strings"
)

// Route is a method and a pattern under a name.
type Route struct {
	Method, Pattern, Name string
}

// Param is a parameter of a pattern and what a path has in its place, percent-decoded.
type Param struct {
	Name, Value string
}

// Found is a route that fits a path.
type Found struct {
	Route
	Params []Param
}

// Router is a table of routes.
type Router struct {
	entries []entry
}

// kind is how specific a segment is: the smaller, the more.
type kind int

const (
	literal kind = iota
	param
	rest
)

type segment struct {
	kind kind
	text string // the literal, or the name of the parameter
}

type entry struct {
	Route
	segments []segment
}

// New makes a router. It panics on a pattern that is not one, or that two routes of a method share: both are
// mistakes in the source.
func New(routes ...Route) *Router {
	router := &Router{}
	for _, route := range routes {
		added := entry{route, parse(route.Pattern)}
		for _, other := range router.entries {
			if other.Method == added.Method && compare(other.segments, added.segments) == 0 {
				panic("routes " + other.Pattern + " and " + added.Pattern + " cannot be told apart")
			}
		}
		router.entries = append(router.entries, added)
	}
	// The most specific first, so that the first that fits is the one.
	slices.SortStableFunc(router.entries, func(a, b entry) int { return compare(a.segments, b.segments) })
	return router
}

// Match returns the most specific route of method that fits path.
func (router *Router) Match(method, path string) (Found, bool) {
	segments, ok := split(path)
	if !ok {
		return Found{}, false
	}
	for _, entry := range router.entries {
		if entry.Method != method {
			continue
		}
		if params, ok := entry.fit(segments); ok {
			return Found{entry.Route, params}, true
		}
	}
	return Found{}, false
}

// Methods returns the methods that have a route for path, sorted.
func (router *Router) Methods(path string) []string {
	segments, ok := split(path)
	if !ok {
		return nil
	}
	var methods []string
	for _, entry := range router.entries {
		if _, ok := entry.fit(segments); ok {
			methods = append(methods, entry.Method)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (entry *entry) fit(path []string) ([]Param, bool) {
	var params []Param
	for i, segment := range entry.segments {
		if i >= len(path) {
			return nil, false
		}
		switch segment.kind {
		case literal:
			if path[i] != segment.text {
				return nil, false
			}
		case param:
			params = append(params, Param{segment.text, path[i]})
		case rest:
			return append(params, Param{segment.text, strings.Join(path[i:], "/")}), true
		}
	}
	return params, len(path) == len(entry.segments)
}

// compare orders patterns by how specific they are, segment by segment. Patterns that only differ in the names
// of their parameters are equal.
func compare(a, b []segment) int {
	for i := range min(len(a), len(b)) {
		if a[i].kind != b[i].kind {
			return int(a[i].kind - b[i].kind)
		}
		if a[i].kind == literal && a[i].text != b[i].text {
			return strings.Compare(a[i].text, b[i].text)
		}
	}
	return len(b) - len(a)
}

func parse(pattern string) []segment {
	texts, ok := split(pattern)
	if !ok || !strings.HasPrefix(pattern, "/") {
		panic("not a pattern: " + pattern)
	}
	segments := make([]segment, 0, len(texts))
	for i, text := range texts {
		name, isParam := strings.CutPrefix(text, "{")
		name, closed := strings.CutSuffix(name, "}")
		if isParam != closed {
			panic("a brace is missing in " + pattern)
		}
		switch restName, isRest := strings.CutSuffix(name, "..."); {
		case !isParam:
			segments = append(segments, segment{literal, text})
		case isRest && i == len(texts)-1:
			segments = append(segments, segment{rest, restName})
		case isRest:
			panic("only the last segment may be the rest: " + pattern)
		default:
			segments = append(segments, segment{param, name})
		}
	}
	return segments
}

// split returns the decoded segments of a path without its query; one slash at the end makes no difference.
// A path is split before it is decoded, so that `%2F` is a part of a segment. There are no empty segments.
func split(path string) ([]string, bool) {
	path, _, _ = strings.Cut(path, "?")
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, false
	}
	if path == "" {
		return nil, true
	}
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i, text := range segments {
		decoded, ok := decode(text)
		if !ok || decoded == "" {
			return nil, false
		}
		segments[i] = decoded
	}
	return segments, true
}

// decode undoes percent-encoding (RFC 3986, section 2.1); what it stands for must be UTF-8. `net/url` does the
// same and would make the component half as large again.
func decode(text string) (string, bool) {
	if !strings.Contains(text, "%") {
		return text, true
	}
	decoded := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			decoded = append(decoded, text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", false
		}
		high, low := digit(text[i+1]), digit(text[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		decoded = append(decoded, byte(high<<4|low))
		i += 2
	}
	return string(decoded), strings.ToValidUTF8(string(decoded), "") == string(decoded)
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
