// Package counters has a resource, and counts how many there are of it.
package counters

import (
	"runtime"

	"matrix-caller/internal/wit/test_matrix_counters"
)

type (
	Colour = test_matrix_counters.Colour
	Step   = test_matrix_counters.Step
)

// Counter has the two fields that the other half of this package, which is generated, works with.
type Counter struct {
	pinner runtime.Pinner
	handle int32
	value  uint32
	colour Colour
	gone   bool
}

var live uint32

func MakeCounter(start uint32, colour Colour) *Counter {
	live++
	return &Counter{value: start, colour: colour}
}

// OnDrop runs when nobody has the counter any more: twice where this component itself drops it.
func (c *Counter) OnDrop() {
	if !c.gone {
		c.gone = true
		live--
	}
}

func (c *Counter) Add(step Step) uint32 {
	c.value += step.By + uint32(len(step.Label))
	return c.value
}

func (c *Counter) Colour() Colour { return c.colour }

// CounterMerge owns a, so it drops it.
func CounterMerge(a *Counter, b *Counter) *Counter {
	defer a.Drop()
	return MakeCounter(a.value+b.value, b.colour)
}

func Make(start uint32) *Counter { return MakeCounter(start, test_matrix_counters.Colour(1)) }

func Read(counter *Counter) uint32 { return counter.value }

func Close(counter *Counter) uint32 {
	defer counter.Drop()
	return counter.value
}

func Live() uint32 { return live }
