package runtime

import (
	"runtime"
	_ "unsafe"
)

// When the heap has grown to so many bytes, it is worth a collection.
const collectAtLeast = 4 << 20

var (
	called    bool
	collectAt uint64 = collectAtLeast
	stats     runtime.MemStats
)

//go:linkname setGCPercent runtime/debug.setGCPercent
func setGCPercent(percent int32) int32

// Not in Go: the build adds it to the runtime.
//
//go:linkname wasiReseed runtime.wasiReseed
func wasiReseed()

const (
	// Objects up to this size come from a piece of the heap for each size.
	smallSize = 2 << 10
	// What the heap is made of.
	pageSize = 8 << 10
)

var (
	data     []byte
	pointers []*byte
)

// Called at build time, after all packages have started and before the instance is written into the component. It is an
// export of the core module that the component does not have.
//
// The first object of each size has a piece of the heap set up for that size. And the heap grows by half a megabyte at a
// time; what it skips for alignment is cleared: many times what a small request costs. Both happen here, so that each
// instance begins with room for objects of all small sizes, and half a megabyte of heap that it has not touched.
//
//go:wasmexport _settle
func settle() {
	for size := 8; size <= smallSize; size += max(8, size/8) {
		data = make([]byte, size)
		pointers = make([]*byte, size/8)
	}
	runtime.ReadMemStats(&stats)
	for before := stats.HeapSys; stats.HeapSys == before; runtime.ReadMemStats(&stats) {
		data = make([]byte, pageSize)
	}
	data, pointers, stats = nil, nil, runtime.MemStats{}
}

// A collection reads the clock, may run timers and may run the cleanups of resources: all of them call imports of
// the component, and while the host is placing arguments or results in our memory (`cabi_realloc`) that is a trap.
// An allocation there must not start one, so nothing is collected on its own.
func init() {
	setGCPercent(-1)
}

// Collect collects garbage when the heap has doubled since the last time. The generated code calls it first in every
// exported function, where imports may be called. The first call of an instance has no garbage, and an instance may
// well never see a second; but its start may have been done at build time, and the random numbers that followed from it
// would be those of every instance.
func Collect() {
	if !called {
		called = true
		wasiReseed()
		return
	}
	runtime.ReadMemStats(&stats)
	if stats.HeapAlloc < collectAt {
		return
	}
	runtime.GC()
	runtime.ReadMemStats(&stats)
	collectAt = max(collectAtLeast, 2*stats.HeapAlloc)
}
