module later

go 1.27
