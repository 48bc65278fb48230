// Package shop is what the business logic knows without asking anybody: which request means what, and what an order must
// look like. It knows nothing of WebAssembly.
package shop

import (
	"slices"
	"strings"
)

// Route is what a request is for.
type Route int

// The routes of the shop.
const (
	Index Route = iota
	SignIn
	Products
	Product
	SetPrice
	Orders
	PlaceOrder
	Order
)

var routes = []struct {
	method  string
	pattern []string // "*" is any one segment
	route   Route
}{
	{"GET", []string{}, Index},
	{"POST", []string{"sign-in"}, SignIn},
	{"GET", []string{"products"}, Products},
	{"GET", []string{"products", "*"}, Product},
	{"PUT", []string{"products", "*", "price"}, SetPrice},
	{"GET", []string{"orders"}, Orders},
	{"POST", []string{"orders"}, PlaceOrder},
	{"GET", []string{"orders", "*"}, Order},
}

// Find returns the route for a request and what its path has in the place of "*". The error is a 404, or a 405 with the
// methods that there are.
func Find(method, path string) (Route, string, *Problem) {
	path, _, _ = strings.Cut(path, "?")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if segments[0] == "" {
		segments = nil
	}
	var allowed []string
	for _, entry := range routes {
		name, ok := fit(entry.pattern, segments)
		if !ok {
			continue
		}
		if entry.method == method {
			return entry.route, name, nil
		}
		allowed = append(allowed, entry.method)
	}
	if len(allowed) == 0 {
		return 0, "", &Problem{Status: 404, Code: "not-found", Message: "there is nothing at " + path}
	}
	slices.Sort(allowed)
	methods := strings.Join(allowed, ", ")
	return 0, "", &Problem{
		Status:  405,
		Code:    "method-not-allowed",
		Message: path + " takes " + methods,
		Headers: map[string]string{"allow": methods},
	}
}

func fit(pattern, segments []string) (string, bool) {
	if len(pattern) != len(segments) {
		return "", false
	}
	name := ""
	for i, part := range pattern {
		if part == "*" {
			name = segments[i]
		} else if part != segments[i] {
			return "", false
		}
	}
	return name, true
}
