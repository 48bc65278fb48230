package handler

import (
	wit "example.com/{{name}}/internal/wit/local_app_handler"
	"example.com/{{name}}/internal/wit/types"
)

func Handle(req wit.Request) wit.Response {
	return wit.Response{
		Status:  200,
		Headers: []types.Tuple2[string, string]{{F0: "content-type", F1: "text/plain; charset=utf-8"}},
		Body:    []byte(greeting(req.Path)),
	}
}

func greeting(path string) string {
	return "Hello from Go at " + path + "\n"
}
