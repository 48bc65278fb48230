// Package drive does everything that can be done with the resource of another component.
package drive

import asked "matrix-caller/internal/wit/test_matrix_asked"

func Run() []uint32 {
	a := asked.MakeCounter(40, 0)
	added := a.Add(asked.Step{By: 2, Label: "two"})
	b := asked.Make(7)
	read, two := asked.Read(b), asked.Live()
	merged := asked.CounterMerge(a, b)
	colour := uint32(merged.Colour())
	stillTwo := asked.Live()
	closed := asked.Close(merged)
	one := asked.Live()
	b.Drop()
	return []uint32{added, read, two, colour, stillTwo, closed, one, asked.Live()}
}
