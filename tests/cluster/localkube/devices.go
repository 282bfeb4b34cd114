package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	resource "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	"k8s.io/klog/v2"
)

const (
	driverName = "devices.vllm-operator.local"
	deviceKind = "vllm-operator.local/device"
)

// deviceDriver gives out devices that are not there, by dynamic resource allocation: the scheduler and kubelet do all that
// they do for a GPU, and a container sees the names of its devices in the variable DEVICES.
type deviceDriver struct {
	specs string
}

func runDeviceDriver() {
	flags := flag.NewFlagSet("device-driver", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	node := flags.String("node", "", "the node that has the devices")
	registry := flags.String("registry", "", "the folder in which kubelet looks for its plugins")
	data := flags.String("data", "", "the folder of the driver's own socket")
	specs := flags.String("specs", "", "the folder in which containerd looks for devices")
	count := flags.Int("count", 1, "how many devices there are")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err == nil {
		err = serveDevices(kubernetes.NewForConfigOrDie(config), *node, *registry, *data, *specs, *count)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "device-driver:", err)
		os.Exit(1)
	}
}

func serveDevices(client kubernetes.Interface, node, registry, data, specs string, count int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for _, folder := range []string{data, specs} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	helper, err := kubeletplugin.Start(ctx, deviceDriver{specs},
		kubeletplugin.DriverName(driverName),
		kubeletplugin.NodeName(node),
		kubeletplugin.KubeClient(client),
		kubeletplugin.RegistrarDirectoryPath(registry),
		kubeletplugin.RegistrarSocketFilename("d"), // the path to a socket must stay short
		kubeletplugin.PluginDataDirectoryPath(data),
	)
	if err != nil {
		return err
	}
	defer helper.Stop()
	devices := make([]resource.Device, count)
	for number := range devices {
		devices[number].Name = fmt.Sprintf("device-%d", number)
	}
	pool := resourceslice.Pool{Slices: []resourceslice.Slice{{Devices: devices}}}
	pools := map[string]resourceslice.Pool{node: pool}
	if err := helper.PublishResources(ctx, resourceslice.DriverResources{Pools: pools}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (d deviceDriver) PrepareResourceClaims(_ context.Context, claims []*resource.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	prepared := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		prepared[claim.UID] = d.prepare(claim)
	}
	return prepared, nil
}

// prepare writes what a container of the claim gets to see, in the words of the Container Device Interface.
func (d deviceDriver) prepare(claim *resource.ResourceClaim) kubeletplugin.PrepareResult {
	result := kubeletplugin.PrepareResult{}
	names := ""
	for _, allocated := range claim.Status.Allocation.Devices.Results {
		if allocated.Driver != driverName {
			continue
		}
		names += " " + allocated.Device
		result.Devices = append(result.Devices, kubeletplugin.Device{
			Requests:     []string{allocated.Request},
			PoolName:     allocated.Pool,
			DeviceName:   allocated.Device,
			CDIDeviceIDs: []string{fmt.Sprintf("%s=%s", deviceKind, claim.UID)},
		})
	}
	edits := map[string]any{"env": []string{"DEVICES=" + names}}
	device := map[string]any{"name": string(claim.UID), "containerEdits": edits}
	spec, err := json.Marshal(map[string]any{"cdiVersion": "0.6.0", "kind": deviceKind, "devices": []any{device}})
	if err == nil {
		err = os.WriteFile(d.spec(claim.UID), spec, 0o644)
	}
	result.Err = err
	return result
}

func (d deviceDriver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	ended := map[types.UID]error{}
	for _, claim := range claims {
		ended[claim.UID] = nil
		if err := os.Remove(d.spec(claim.UID)); err != nil && !os.IsNotExist(err) {
			ended[claim.UID] = err
		}
	}
	return ended, nil
}

func (d deviceDriver) spec(claim types.UID) string {
	return filepath.Join(d.specs, string(claim)+".json")
}

func (d deviceDriver) HandleError(_ context.Context, err error, message string) {
	klog.ErrorS(err, message)
}
