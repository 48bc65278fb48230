package echo

import (
	wit "matrix-provider/internal/wit/test_matrix_echo"
	"matrix-provider/internal/wit/types"
)

func ScalarsOf(v wit.Scalars) wit.Scalars { return v }
func Truth(v bool) bool { return v }
func Unsigned(v uint64) uint64 { return v }
func Signed(v int64) int64 { return v }
func Single(v float32) float32 { return v }
func Double(v float64) float64 { return v }
func Letter(v rune) rune { return v }
func Text(v string) string { return v }
func Bytes(v []uint8) []uint8 { return v }
func Nested(v [][]string) [][]string { return v }
func Pair(v types.Tuple2[uint32, string]) (uint32, string) { return v.F0, v.F1 }
func People(v []wit.Person) []wit.Person { return v }
func ShapeOf(v wit.Shape) wit.Shape { return v }
func ColourOf(v wit.Colour) wit.Colour { return v }
func PermsOf(v wit.Perms) wit.Perms { return v }
func Maybe(v types.Option[string]) types.Option[string] { return v }

func Outcome(fails bool, number uint32, reason string) types.Result[uint32, string] {
	if fails {
		return types.Err[uint32, string](reason)
	}
	return types.Ok[uint32, string](number)
}
