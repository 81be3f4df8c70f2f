// Package notify hears what a worker says of itself by sd_notify(3).
package notify
