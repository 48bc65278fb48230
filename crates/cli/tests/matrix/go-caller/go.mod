module matrix-caller

go 1.27
