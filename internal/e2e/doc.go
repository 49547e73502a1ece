// Package e2e holds the end-to-end tests: real masters, agents, executors and
// frameworks as processes of their own, killed at points that the tests pick. It
// has no code of its own.
package e2e
