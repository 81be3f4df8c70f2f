package cgroup

import (
	"fmt"
	"io"
	"os"
	"testing"
)

// programArgument makes the test binary one of the programs below.
const programArgument = "be"

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != programArgument {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[2] {
	case "stay": // says that it runs, and ends with its standard input
		fmt.Println("here")
		_, err = io.Copy(io.Discard, os.Stdin)
	case "delegated": // says which group was delegated to it
		var group *Group
		if group, err = Delegated(); err == nil {
			fmt.Print(group.path)
		}
	case "enter": // enters a child of the group that was delegated to it
		err = enter()
	}
	if err != nil {
		fmt.Print(err)
		os.Exit(1)
	}
}

func enter() error {
	group, err := Delegated()
	if err != nil {
		return err
	}
	own, err := group.Make("launcher")
	if err != nil {
		return err
	}
	if err := own.Enter(); err != nil {
		return err
	}
	pids, err := own.Processes()
	if err != nil {
		return err
	}
	if again, err := Delegated(); err != nil || again.path != group.path {
		return fmt.Errorf("after it has entered: %v, %w", again, err)
	}
	fmt.Print(pids)
	return nil
}
