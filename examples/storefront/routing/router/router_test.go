package router

import (
	"slices"
	"testing"
)

var table = New(
	Route{"GET", "/", "index"},
	Route{"GET", "/files/{path...}", "file"},
	Route{"GET", "/orders/{id}", "order"},
	Route{"DELETE", "/orders/{id}", "cancel"},
	Route{"GET", "/orders/{id}/items/{item}", "item"},
	Route{"GET", "/orders/latest", "latest"},
	Route{"GET", "/{page}", "page"},
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		method, path, name string
		params             []Param
	}{
		{"GET", "/", "index", nil},
		{"GET", "/?q=1", "index", nil},
		{"GET", "/orders/7", "order", []Param{{"id", "7"}}},
		{"GET", "/orders/7/", "order", []Param{{"id", "7"}}},
		{"GET", "/orders/7?full=/a/b", "order", []Param{{"id", "7"}}},
		{"DELETE", "/orders/7", "cancel", []Param{{"id", "7"}}},
		{"GET", "/orders/latest", "latest", nil},
		{"DELETE", "/orders/latest", "cancel", []Param{{"id", "latest"}}},
		{"GET", "/orders/7/items/9", "item", []Param{{"id", "7"}, {"item", "9"}}},
		{"GET", "/about", "page", []Param{{"page", "about"}}},
		{"GET", "/files/a/b/c.txt", "file", []Param{{"path", "a/b/c.txt"}}},
		{"GET", "/files", "page", []Param{{"page", "files"}}},
		{"GET", "/orders/a%2Fb%20%C3%B6", "order", []Param{{"id", "a/b ö"}}},
		{"GET", "/or%64ers/7", "order", []Param{{"id", "7"}}},
		{"POST", "/orders/7", "", nil},
		{"get", "/orders/7", "", nil},
		{"GET", "", "", nil},
		{"GET", "orders/7", "", nil},
		{"GET", "//", "", nil},
		{"GET", "/orders//7", "", nil},
		{"GET", "/orders/7//", "", nil},
		{"GET", "/orders/7/items", "", nil},
		{"GET", "/orders/%", "", nil},
		{"GET", "/orders/%4", "", nil},
		{"GET", "/orders/%zz", "", nil},
		{"GET", "/orders/%FF", "", nil},
	} {
		found, ok := table.Match(test.method, test.path)
		if ok != (test.name != "") || found.Name != test.name || !slices.Equal(found.Params, test.params) {
			t.Errorf("%s %s: found %v %v", test.method, test.path, found, ok)
		}
	}
}

func TestMethods(t *testing.T) {
	for path, want := range map[string][]string{
		"/orders/7":      {"DELETE", "GET"},
		"/orders/7/x":    nil,
		"/orders/%":      nil,
		"/orders/latest": {"DELETE", "GET"},
	} {
		if got := table.Methods(path); !slices.Equal(got, want) {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestMistakesInTheTable(t *testing.T) {
	for _, patterns := range [][]string{{"orders"}, {"/{id"}, {"/id}"}, {"/{rest...}/x"}, {"/{a}", "/{b}"}, {"/a//b"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v made a router", patterns)
				}
			}()
			var routes []Route
			for _, pattern := range patterns {
				routes = append(routes, Route{"GET", pattern, pattern})
			}
			New(routes...)
		}()
	}
}
