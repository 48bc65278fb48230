module logic

go 1.27
