// Package api is in use before the first request: its variables, a map among them, are made at the start.
package api

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"taken/internal/wit/types"
)

var table = func() map[string]uint32 {
	table := make(map[string]uint32)
	for i := range uint32(1000) {
		table[strings.Repeat("k", int(i%7))+string(rune('a'+i%26))] = i
	}
	return table
}()

// One waits in a goroutine of its own since the start.
var requests, answers = make(chan uint32), make(chan uint32)

func init() {
	go func() {
		for number := range requests {
			answers <- number + 1
		}
	}()
}

func Known(key string) types.Option[uint32] {
	if value, ok := table[key]; ok {
		return types.Some(value)
	}
	return types.None[uint32]()
}

func Random() uint64 { return rand.Uint64() }

func Churn(rounds uint32) uint32 {
	kept := make(map[uint32][]byte)
	for i := range rounds {
		kept[i%10] = make([]byte, 10_000)
		if i%1000 == 0 {
			runtime.GC()
		}
	}
	requests <- uint32(len(kept))
	return <-answers
}

func Wait() uint64 {
	before := time.Now()
	time.Sleep(time.Millisecond)
	return uint64(time.Since(before))
}
