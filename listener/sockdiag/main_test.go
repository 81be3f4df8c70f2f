package sockdiag

import "openclaw-gateway/test/sockets"

// By these names, because the tests call sockets what the package returns.
var listen, dial, inodeOf, crowd = sockets.Server, sockets.Dial, sockets.Inode, sockets.Crowd
