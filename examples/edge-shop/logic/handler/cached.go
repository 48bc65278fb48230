package handler

import (
	"encoding/json"
	"time"

	cache "logic/internal/wit/demo_shop_cache"
	"logic/shop"
)

// freshFor is how old what is shown of a product may be. Stock, orders and tokens are never cached: they are somebody's,
// or have to be right.
const freshFor = 5 * time.Second

// origin is where an answer came from.
type origin string

const (
	hit  origin = "hit"
	miss origin = "miss"
)

func (from origin) header() map[string]string {
	return map[string]string{"x-cache": string(from)}
}

// cached returns what the cache has under key, or else what get returns, which is then kept.
func cached[T any](key string, get func() (T, *shop.Problem)) (T, origin, *shop.Problem) {
	now := time.Now().UnixMilli()
	if kept := cache.Get(key, uint64(now)); kept.IsSome() {
		var value T
		if json.Unmarshal(kept.Some(), &value) == nil {
			return value, hit, nil
		}
	}
	value, problem := get()
	if problem != nil {
		return value, miss, problem
	}
	if text, err := json.Marshal(value); err == nil {
		cache.Put(key, text, uint64(now+freshFor.Milliseconds()))
	}
	return value, miss, nil
}

// forget makes the next request of this sandbox ask the database again. Others do within freshFor.
func forget(keys ...string) {
	for _, key := range keys {
		cache.Remove(key)
	}
}
