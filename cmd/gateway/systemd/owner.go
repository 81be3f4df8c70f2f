package systemd

import (
	"context"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"openclaw-gateway/netaddr"
)

// Owner has the numbers of the user and the group who may connect to a unix socket, wherever the system has their names.
func Owner(access netaddr.Access) (netaddr.Access, error) {
	if _, notNumber := strconv.Atoi(access.User); access.User != "" && notNumber != nil {
		account, err := Account(access.User)
		if err != nil {
			return access, fmt.Errorf("there is no user %s", access.User)
		}
		access.User = account.Uid
	}
	if _, notNumber := strconv.Atoi(access.Group); access.Group != "" && notNumber != nil {
		id, err := groupID(access.Group)
		if err != nil {
			return access, fmt.Errorf("there is no group %s", access.Group)
		}
		access.Group = id
	}
	return access, nil
}

// groupID is for groups what Account is for users.
func groupID(name string) (string, error) {
	group, err := user.LookupGroup(name)
	if err == nil {
		return group.Gid, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentLimit)
	defer cancel()
	output, failed := exec.CommandContext(ctx, "getent", "--", "group", name).Output()
	// group(5)
	if fields := strings.Split(strings.TrimSpace(string(output)), ":"); failed == nil && len(fields) == 4 {
		return fields[2], nil
	}
	return "", err
}
