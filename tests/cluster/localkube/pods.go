package main

import (
	"context"
	"fmt"
	"os"
	"time"

	cri "k8s.io/cri-client/pkg"
)

// removePods stops and removes every pod sandbox at the container runtime behind the given endpoint: what `crictl rmp -fa`
// does. A node that goes down calls it after kubelet's end, so that no container, mount or network namespace stays.
func removePods(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	runtime, err := cri.NewRemoteRuntimeService(ctx, endpoint, 10*time.Second, nil, false)
	if err != nil {
		return err
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	failures := make(chan error, len(sandboxes))
	for _, sandbox := range sandboxes {
		go func() {
			if err := runtime.StopPodSandbox(ctx, sandbox.Id); err != nil {
				failures <- err
				return
			}
			failures <- runtime.RemovePodSandbox(ctx, sandbox.Id)
		}()
	}
	var last error
	for range sandboxes {
		if err := <-failures; err != nil {
			fmt.Fprintln(os.Stderr, err)
			last = err
		}
	}
	return last
}

func runRemovePods() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: remove-pods ENDPOINT")
		os.Exit(2)
	}
	if err := removePods(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "remove-pods:", err)
		os.Exit(1)
	}
}
