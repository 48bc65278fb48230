package handler

import (
	"encoding/json"

	"logic/shop"
)

// What encoding/json finds out about a type it finds out once and keeps. An init function runs when the component is
// built, and what it leaves is part of it: no sandbox has to find it out again.
func init() {
	for _, body := range []any{
		(&shop.Problem{}).Body(),
		map[string]any{"products": []shopProduct{{}}, "scope": "", "expires_at": uint64(0)},
		map[string]any{"orders": []shopOrder{{Lines: []shop.Line{{}}}}},
		shopOrder{Lines: []shop.Line{{}}},
		stockedProduct{},
	} {
		if _, err := json.Marshal(body); err != nil {
			panic(err)
		}
	}
	for text, into := range map[string]any{`[{"id":"","cents":1}]`: &[]shopProduct{}, `{"id":"","cents":1}`: &shopProduct{}} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			panic(err)
		}
	}
	shop.ReadCredentials([]byte(`{"user":"","password":"","seconds":1}`))
	shop.ReadOrder([]byte(`{"lines":[{"product":"saw","quantity":1}]}`))
	shop.ReadPrice([]byte(`{"cents":1}`))
}
