// Package relay asks another component and hands on what it says.
package relay

import (
	"matrix-caller/internal/wit/test_matrix_echo"
	"matrix-caller/internal/wit/types"
)

type (
	scalars = test_matrix_echo.Scalars
	person  = test_matrix_echo.Person
	shape   = test_matrix_echo.Shape
	colour  = test_matrix_echo.Colour
	perms   = test_matrix_echo.Perms
	outcome = types.Result[uint32, string]
)

func ScalarsOf(v scalars) scalars                       { return test_matrix_echo.ScalarsOf(v) }
func Truth(v bool) bool                                 { return test_matrix_echo.Truth(v) }
func Unsigned(v uint64) uint64                          { return test_matrix_echo.Unsigned(v) }
func Signed(v int64) int64                              { return test_matrix_echo.Signed(v) }
func Single(v float32) float32                          { return test_matrix_echo.Single(v) }
func Double(v float64) float64                          { return test_matrix_echo.Double(v) }
func Letter(v rune) rune                                { return test_matrix_echo.Letter(v) }
func Text(v string) string                              { return test_matrix_echo.Text(v) }
func Bytes(v []uint8) []uint8                           { return test_matrix_echo.Bytes(v) }
func Nested(v [][]string) [][]string                    { return test_matrix_echo.Nested(v) }
func People(v []person) []person                        { return test_matrix_echo.People(v) }
func ShapeOf(v shape) shape                             { return test_matrix_echo.ShapeOf(v) }
func ColourOf(v colour) colour                          { return test_matrix_echo.ColourOf(v) }
func PermsOf(v perms) perms                             { return test_matrix_echo.PermsOf(v) }
func Maybe(v types.Option[string]) types.Option[string] { return test_matrix_echo.Maybe(v) }
func Results(v []outcome) []outcome                     { return test_matrix_echo.Results(v) }

func Pair(v types.Tuple2[uint32, string]) (uint32, string) {
	return test_matrix_echo.Pair(v)
}

func Deep(v types.Option[types.Option[uint32]]) types.Option[types.Option[uint32]] {
	return test_matrix_echo.Deep(v)
}

func Small(a uint8, b int8, c uint16, d int16, e uint32, f int32) (uint8, int8, uint16, int16, uint32, int32) {
	return test_matrix_echo.Small(a, b, c, d, e, f)
}

func Outcome(fails bool, number uint32, reason string) outcome {
	return test_matrix_echo.Outcome(fails, number, reason)
}
