module metrics-math

go 1.27
