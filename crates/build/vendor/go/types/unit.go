package types

type Unit struct{}
