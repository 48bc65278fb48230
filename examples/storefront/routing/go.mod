module routing

go 1.27
