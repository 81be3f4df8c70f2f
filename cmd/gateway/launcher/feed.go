package launcher

import (
	"sync"
	"sync/atomic"

	"openclaw-gateway/worker"
)

// feed passes each change on to those who watch; without any it does nothing.
type feed struct {
	mu       sync.Mutex
	watchers map[chan worker.Status]struct{}
}

// feedLength is how many changes a slow watcher may lag behind before it misses
// the oldest.
const feedLength = 64

// join returns the changes from now on; leave ends that.
func (f *feed) join() (changes <-chan worker.Status, leave func()) {
	watcher := make(chan worker.Status, feedLength)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[chan worker.Status]struct{}{}
	}
	f.watchers[watcher] = struct{}{}
	return watcher, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, watcher)
	}
}

// tell passes on what is observed now. Of two calls at once none passes on the
// older state after the newer one. It never blocks: the supervisor calls it.
func (f *feed) tell(observed *atomic.Pointer[worker.Status]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := observed.Load()
	for watcher := range f.watchers {
		for sent := false; !sent; {
			select {
			case watcher <- *status:
				sent = true
			default:
				select {
				case <-watcher:
				default: // it has just been read
				}
			}
		}
	}
}
