// Package match is what this component exports: the interface demo:routing/match.
package match

import (
	wit "routing/internal/wit/demo_routing_match"
	"routing/internal/wit/types"
	"routing/router"
)

// The routes of the storefront.
var routes = router.New(
	router.Route{Method: "GET", Pattern: "/", Name: "index"},
	router.Route{Method: "POST", Pattern: "/login", Name: "login"},
	router.Route{Method: "GET", Pattern: "/products", Name: "products"},
	router.Route{Method: "GET", Pattern: "/products/cheapest", Name: "cheapest-product"},
	router.Route{Method: "GET", Pattern: "/products/{id}", Name: "product"},
	router.Route{Method: "GET", Pattern: "/orders", Name: "orders"},
	router.Route{Method: "POST", Pattern: "/orders", Name: "create-order"},
	router.Route{Method: "GET", Pattern: "/orders/{id}", Name: "order"},
)

// MatchRoute returns the route for a request, or none.
func MatchRoute(method string, path string) types.Option[wit.Route] {
	found, ok := routes.Match(method, path)
	if !ok {
		return types.None[wit.Route]()
	}
	params := make([]types.Tuple2[string, string], 0, len(found.Params))
	for _, param := range found.Params {
		params = append(params, types.Tuple2[string, string]{F0: param.Name, F1: param.Value})
	}
	return types.Some(wit.Route{Name: found.Name, Pattern: found.Pattern, Params: params})
}

// AllowedMethods returns the methods that path has routes for.
func AllowedMethods(path string) []string {
	return routes.Methods(path)
}
