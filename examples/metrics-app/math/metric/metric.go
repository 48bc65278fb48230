// Package metric calculates. It knows nothing of components.
package metric

import "math"

// Mean is the arithmetic mean of data, NaN when there is none.
//
// The sum is carried with its rounding error (A. Neumaier, 1974): adding up a million values one by one otherwise loses
// six digits, and small ones beside large ones are lost altogether. Should the sum overflow although the mean does not,
// it is calculated from halves.
func Mean(data []float64) float64 {
	if len(data) == 0 {
		return math.NaN()
	}
	count := float64(len(data))
	mean := sum(data, 1) / count
	if math.IsInf(mean, 0) || math.IsNaN(mean) {
		// The largest power of two that no sum of so many values can overflow with.
		_, exponent := math.Frexp(count)
		scale := math.Ldexp(1, -exponent)
		mean = sum(data, scale) / count / scale
	}
	return mean
}

// sum adds up data, each times scale.
func sum(data []float64, scale float64) float64 {
	total, lost := 0.0, 0.0
	for _, value := range data {
		value *= scale
		next := total + value
		if math.Abs(total) >= math.Abs(value) {
			lost += (total - next) + value
		} else {
			lost += (value - next) + total
		}
		total = next
	}
	if math.IsInf(total, 0) || math.IsNaN(total) {
		// There is no rounding error of an infinity.
		return total
	}
	return total + lost
}
