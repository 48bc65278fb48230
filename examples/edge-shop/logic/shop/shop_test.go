package shop

import "testing"

func TestFind(t *testing.T) {
	for _, test := range []struct {
		method, path string
		route        Route
		name         string
		status       uint16
		allow        string
	}{
		{"GET", "/", Index, "", 0, ""},
		{"GET", "/products?sort=price", Products, "", 0, ""},
		{"GET", "/products/saw/", Product, "saw", 0, ""},
		{"PUT", "/products/saw/price", SetPrice, "saw", 0, ""},
		{"POST", "/orders", PlaceOrder, "", 0, ""},
		{"GET", "/orders/1001", Order, "1001", 0, ""},
		{"DELETE", "/orders", 0, "", 405, "GET, POST"},
		{"GET", "/products/saw/price", 0, "", 405, "PUT"},
		{"GET", "/nowhere", 0, "", 404, ""},
		{"GET", "/products/saw/price/now", 0, "", 404, ""},
	} {
		route, name, problem := Find(test.method, test.path)
		if problem == nil {
			problem = &Problem{}
		}
		if route != test.route || name != test.name || problem.Status != test.status || problem.Headers["allow"] != test.allow {
			t.Errorf("%s %s: %v %q %+v", test.method, test.path, route, name, problem)
		}
	}
}

func TestReadOrder(t *testing.T) {
	lines, problem := ReadOrder([]byte(`{"lines":[{"product":"saw","quantity":2}]}`))
	if problem != nil || len(lines) != 1 || lines[0] != (Line{"saw", 2}) {
		t.Errorf("%v %v", lines, problem)
	}
	for body, status := range map[string]uint16{
		``:                              400,
		`{`:                             400,
		`{"lines":[]} x`:                400,
		`[]`:                            422,
		`{}`:                            422,
		`{"lines":[]}`:                  422,
		`{"lines":[{"product":"saw"}]}`: 422,
		`{"lines":[{"quantity":1}]}`:    422,
		`{"lines":[{"product":"saw","quantity":0}]}`:           422,
		`{"lines":[{"product":"saw","quantity":1.5}]}`:         422,
		`{"lines":[{"product":"saw","quantity":1,"price":0}]}`: 422,
	} {
		if _, problem := ReadOrder([]byte(body)); problem == nil || problem.Status != status {
			t.Errorf("%s: %+v", body, problem)
		}
	}
}

func TestReadCredentials(t *testing.T) {
	sent, problem := ReadCredentials([]byte(`{"user":"ada","password":"x"}`))
	if problem != nil || sent != (Credentials{"ada", "x", secondsMax}) {
		t.Errorf("%v %v", sent, problem)
	}
	for _, body := range []string{`{"user":"ada"}`, `{"user":"ada","password":"x","seconds":-1}`} {
		if _, problem := ReadCredentials([]byte(body)); problem == nil || problem.Status != 422 {
			t.Errorf("%s: %+v", body, problem)
		}
	}
}

func TestReadPrice(t *testing.T) {
	if cents, problem := ReadPrice([]byte(`{"cents":7900}`)); problem != nil || cents != 7900 {
		t.Errorf("%v %v", cents, problem)
	}
	for _, body := range []string{`{}`, `{"cents":0}`, `{"cents":"1"}`} {
		if _, problem := ReadPrice([]byte(body)); problem == nil {
			t.Errorf("%s is a price", body)
		}
	}
}
