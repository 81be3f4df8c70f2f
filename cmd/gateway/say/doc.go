// Package say is how something is written for a person, whatever it is about: lists, numbers of things, durations, signals,
// commands without their secrets, colours.
package say
