// Package status is "gateway status": what the launcher tells, completed by what its service manager and the kernel tell to
// whoever asks, with the verdict and the text for a person.
package status
