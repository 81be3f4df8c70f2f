// Package watch notices edits of one file, whatever way an editor, a script or
// Kubernetes has of saving it: in place, by renaming another file over it, by
// retargeting a symbolic link on the way to it, by removing it and making it
// again, with or without its directories.
//
// It uses inotify(7) itself because what matters there is the difference between
// a file that is being written and one that has been: IN_MODIFY begins an edit,
// IN_CLOSE_WRITE or IN_MOVED_TO ends it, and only then is it acted on.
//
// The path is walked as the kernel does it, one name after the other, through
// every symbolic link (chain.go). Each directory on the way is watched before the
// name in it is looked at, so that no change falls between the two; each change of
// such a name leads to another walk. Where a directory is missing, the walk ends
// at the nearest that exists, which tells when it is made.
//
// What was saved within a short time is one edit (watcher.go). It is reported if
// it left another content than the last one that was seen (fingerprint.go).
//
// Nothing is polled: without an event there is no timer. What does cause a short
// wake-up, but no call, are names that come and go in the directories on the way,
// and writes to neighbours of the file.
//
// inotify does not tell what it cannot see: edits on another machine of a file on
// a network file system, a mount on top of a directory on the way, writes through
// a shared mapping that stays open, and a truncate(2) by path, which opens nothing
// and so closes nothing, until the file is next written or replaced.
package watch
