// Package verb is what a person has a launcher do: restart, reload, start and stop, and what that one is told meanwhile.
package verb
