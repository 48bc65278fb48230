// Package handler is what this component exports: the interface demo:shop/handler. It joins what the others know: who is
// asking is the component auth's to say, and what there is the database's.
package handler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	auth "logic/internal/wit/demo_shop_auth"
	database "logic/internal/wit/demo_shop_database"
	wit "logic/internal/wit/demo_shop_handler"
	"logic/internal/wit/types"
	"logic/shop"
)

// reply is a response with a JSON body.
type reply struct {
	status  uint16
	body    any
	headers map[string]string
}

func ok(body any) (reply, *shop.Problem) {
	return reply{status: 200, body: body}, nil
}

// Handle answers one request.
func Handle(req wit.Request) wit.Response {
	answer, problem := route(req)
	if problem != nil {
		answer = reply{problem.Status, problem.Body(), problem.Headers}
	}
	body, err := json.Marshal(answer.body)
	if err != nil {
		panic(err)
	}
	headers := []types.Tuple2[string, string]{{F0: "content-type", F1: "application/json"}}
	for name, value := range answer.headers {
		headers = append(headers, types.Tuple2[string, string]{F0: name, F1: value})
	}
	return wit.Response{Status: answer.status, Headers: headers, Body: append(body, '\n')}
}

func route(req wit.Request) (reply, *shop.Problem) {
	route, name, problem := shop.Find(req.Method, req.Path)
	if problem != nil {
		return reply{}, problem
	}
	body := req.Body.SomeOr(nil)
	switch route {
	case shop.SignIn:
		return signIn(body)
	case shop.Products:
		return products()
	case shop.Product:
		return product(name)
	case shop.SetPrice:
		return setPrice(req, name, body)
	case shop.Orders:
		return orders(req)
	case shop.PlaceOrder:
		return placeOrder(req, body)
	case shop.Order:
		return order(req, name)
	}
	return ok(map[string]string{
		"service": "edge-shop", "products": "/products", "orders": "/orders", "sign-in": "/sign-in",
	})
}

func signIn(body []byte) (reply, *shop.Problem) {
	sent, problem := shop.ReadCredentials(body)
	if problem != nil {
		return reply{}, problem
	}
	result := auth.SignIn(sent.User, sent.Password, sent.Seconds)
	if result.IsOk() {
		got := result.Ok()
		return ok(map[string]any{
			"token": got.Token, "token_type": "Bearer", "scope": strings.Join(got.Scopes, " "), "expires_at": got.ExpiresAt,
		})
	}
	if err := result.Err(); err.Tag() == auth.SignInError_NoKey {
		return reply{}, shop.Failed(err.NoKey())
	}
	return reply{}, &shop.Problem{Status: 401, Code: "wrong-password", Message: "no such user, or another password"}
}

func products() (reply, *shop.Problem) {
	all, from, problem := cached("catalogue", func() ([]shopProduct, *shop.Problem) {
		result := database.Catalogue()
		if result.IsErr() {
			return nil, shop.Failed(result.Err())
		}
		all := []shopProduct{}
		for _, one := range result.Ok() {
			all = append(all, shopProduct{one.Id, one.Name, one.Cents})
		}
		return all, nil
	})
	if problem != nil {
		return reply{}, problem
	}
	return reply{200, map[string]any{"products": all}, from.header()}, nil
}

// product answers with a description that may be some seconds old, and with the stock as it is now.
func product(id string) (reply, *shop.Problem) {
	described, from, problem := cached("product/"+id, func() (shopProduct, *shop.Problem) {
		result := database.Catalogue()
		if result.IsErr() {
			return shopProduct{}, shop.Failed(result.Err())
		}
		all := result.Ok()
		at := slices.IndexFunc(all, func(one database.Product) bool { return one.Id == id })
		if at < 0 {
			return shopProduct{}, noSuchProduct(id)
		}
		return shopProduct{all[at].Id, all[at].Name, all[at].Cents}, nil
	})
	if problem != nil {
		return reply{}, problem
	}
	stock := database.Stock(id)
	if stock.IsErr() {
		return reply{}, shop.Failed(stock.Err())
	}
	return reply{200, stockedProduct{described, stock.Ok().SomeOr(0)}, from.header()}, nil
}

func setPrice(req wit.Request, id string, body []byte) (reply, *shop.Problem) {
	if _, problem := bearer(req, "catalogue:write"); problem != nil {
		return reply{}, problem
	}
	cents, problem := shop.ReadPrice(body)
	if problem != nil {
		return reply{}, problem
	}
	result := database.SetPrice(id, cents)
	if result.IsErr() {
		return reply{}, shop.Failed(result.Err())
	}
	changed := result.Ok()
	if changed.IsNone() {
		return reply{}, noSuchProduct(id)
	}
	forget("catalogue", "product/"+id)
	got := changed.Some()
	return ok(shopProduct{got.Id, got.Name, got.Cents})
}

func orders(req wit.Request) (reply, *shop.Problem) {
	claims, problem := bearer(req, "orders:read")
	if problem != nil {
		return reply{}, problem
	}
	result := database.OrdersOf(claims.Subject)
	if result.IsErr() {
		return reply{}, shop.Failed(result.Err())
	}
	all := []shopOrder{}
	for _, one := range result.Ok() {
		all = append(all, shown(one))
	}
	return ok(map[string]any{"orders": all})
}

func order(req wit.Request, name string) (reply, *shop.Problem) {
	claims, problem := bearer(req, "orders:read")
	if problem != nil {
		return reply{}, problem
	}
	// Somebody else's order is as unknown as one that was never placed.
	unknown := &shop.Problem{Status: 404, Code: "no-such-order", Message: fmt.Sprintf("there is no order %q", name)}
	number, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return reply{}, unknown
	}
	result := database.FindOrder(claims.Subject, uint32(number))
	if result.IsErr() {
		return reply{}, shop.Failed(result.Err())
	}
	found := result.Ok()
	if found.IsNone() {
		return reply{}, unknown
	}
	return ok(shown(found.Some()))
}

func placeOrder(req wit.Request, body []byte) (reply, *shop.Problem) {
	claims, problem := bearer(req, "orders:write")
	if problem != nil {
		return reply{}, problem
	}
	lines, problem := shop.ReadOrder(body)
	if problem != nil {
		return reply{}, problem
	}
	wanted := make([]database.Line, 0, len(lines))
	for _, line := range lines {
		wanted = append(wanted, database.Line{Product: line.Product, Quantity: line.Quantity})
	}
	result := database.PlaceOrder(claims.Subject, wanted)
	if result.IsErr() {
		return reply{}, refused(result.Err())
	}
	placed := shown(result.Ok())
	return reply{201, placed, map[string]string{"location": fmt.Sprintf("/orders/%d", placed.Number)}}, nil
}

// refused is why the database did not take an order.
func refused(err database.OrderError) *shop.Problem {
	switch err.Tag() {
	case database.OrderError_Invalid:
		return &shop.Problem{Status: 422, Code: "invalid-order", Message: err.Invalid()}
	case database.OrderError_UnknownProduct:
		problem := noSuchProduct(err.UnknownProduct())
		problem.Status = 422
		return problem
	case database.OrderError_OutOfStock:
		short := err.OutOfStock()
		return &shop.Problem{
			Status:  409,
			Code:    "out-of-stock",
			Message: fmt.Sprintf("of %q there are %d left, and %d were ordered", short.Product, short.Left, short.Wanted),
			Details: map[string]any{"product": short.Product, "left": short.Left, "wanted": short.Wanted},
		}
	case database.OrderError_Busy:
		return &shop.Problem{
			Status:  503,
			Code:    "busy",
			Message: "too many orders at once",
			Headers: map[string]string{"retry-after": "1"},
		}
	}
	return shop.Failed(err.Failed())
}

func noSuchProduct(id string) *shop.Problem {
	return &shop.Problem{Status: 404, Code: "no-such-product", Message: fmt.Sprintf("there is no product %q", id)}
}

// bearer returns what the request's token says, if it is valid and has scope.
func bearer(req wit.Request, scope string) (auth.Claims, *shop.Problem) {
	token := ""
	for _, header := range req.Headers {
		if scheme, rest, _ := strings.Cut(header.F1, " "); header.F0 == "authorization" && strings.EqualFold(scheme, "bearer") {
			token = strings.TrimSpace(rest)
			break
		}
	}
	if token == "" {
		return auth.Claims{}, shop.Challenge("", "this needs a token: `authorization: Bearer TOKEN`")
	}
	result := auth.Verify(token)
	if result.IsErr() {
		return auth.Claims{}, distrusted(result.Err())
	}
	claims := result.Ok()
	if !slices.Contains(claims.Scopes, scope) {
		message := fmt.Sprintf("%s may not do this: the token lacks %s", claims.Subject, scope)
		return auth.Claims{}, &shop.Problem{Status: 403, Code: "missing-scope", Message: message}
	}
	return claims, nil
}

func distrusted(err auth.TokenError) *shop.Problem {
	switch err.Tag() {
	case auth.TokenError_Malformed:
		return shop.Challenge("malformed", "this is not a token: "+err.Malformed())
	case auth.TokenError_UnsupportedAlgorithm:
		return shop.Challenge("unsupported-algorithm", "the token must be signed with HS256, not "+err.UnsupportedAlgorithm())
	case auth.TokenError_BadSignature:
		return shop.Challenge("bad-signature", "the token was not signed here, or was changed since")
	case auth.TokenError_Expired:
		return shop.Challenge("expired", fmt.Sprintf("the token expired at %d, in seconds since 1970", err.Expired()))
	}
	return shop.Failed(err.NoKey())
}

type shopProduct struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Cents uint32 `json:"cents"`
}

type stockedProduct struct {
	shopProduct
	Stock uint32 `json:"stock"`
}

type shopOrder struct {
	Number   uint32      `json:"number"`
	Customer string      `json:"customer"`
	Lines    []shop.Line `json:"lines"`
	Cents    uint64      `json:"cents"`
}

func shown(order database.Order) shopOrder {
	lines := make([]shop.Line, 0, len(order.Lines))
	for _, line := range order.Lines {
		lines = append(lines, shop.Line{Product: line.Product, Quantity: line.Quantity})
	}
	return shopOrder{order.Number, order.Customer, lines, order.Cents}
}
