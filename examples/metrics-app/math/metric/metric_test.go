package metric

import (
	"math"
	"testing"
)

func TestMean(t *testing.T) {
	many := make([]float64, 1_000_000)
	for index := range many {
		many[index] = 0.1
	}
	for _, test := range []struct {
		name string
		data []float64
		want float64
	}{
		{"one", []float64{7}, 7},
		{"several", []float64{1, 2, 3, 4}, 2.5},
		{"small beside large", []float64{1e100, 1, -1e100, 1}, 0.5},
		{"a million tenths", many, 0.1},
		{"the sum overflows, the mean does not", []float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64},
		{"opposite ends", []float64{math.MaxFloat64, math.MaxFloat64, -math.MaxFloat64, -math.MaxFloat64}, 0},
		{"an infinity", []float64{1, math.Inf(1)}, math.Inf(1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Mean(test.data); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestMeanOfNothing(t *testing.T) {
	for _, data := range [][]float64{nil, {math.NaN(), 1}, {math.Inf(1), math.Inf(-1)}} {
		if got := Mean(data); !math.IsNaN(got) {
			t.Errorf("Mean(%v) = %v", data, got)
		}
	}
}
