// Package math_ops is what this component exports: the interface demo:metrics/math-ops.
package math_ops

import "metrics-math/metric"

// CalculateMetric returns the mean of data.
func CalculateMetric(data []float64) float64 {
	return metric.Mean(data)
}
