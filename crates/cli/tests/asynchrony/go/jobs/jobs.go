// Package jobs waits for another component and hands on what it says.
package jobs

import (
	"later/internal/wit/test_later_jobs"
	"later/internal/wit/types"
)

func Double(value uint32) uint32 { return test_later_jobs.Double(value) }

// Follow waits in a goroutine, which the one that was called waits for.
func Follow(trail string) string {
	answer := make(chan string)
	go func() { answer <- test_later_jobs.Follow(trail + " go") }()
	return <-answer
}

func Refuse(why string) types.Result[uint32, string] { return test_later_jobs.Refuse(why) }
