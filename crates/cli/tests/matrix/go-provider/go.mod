module matrix-provider

go 1.27
