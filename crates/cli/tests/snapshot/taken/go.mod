module taken

go 1.27
