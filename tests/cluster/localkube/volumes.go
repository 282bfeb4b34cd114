package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	provisionerName     = "vllm-operator.local/folder"
	provisionerOfClaim  = "volume.kubernetes.io/storage-provisioner"
	provisionerOfVolume = "pv.kubernetes.io/provisioned-by"
	selectedNode        = "volume.kubernetes.io/selected-node"
)

// volumeProvisioner makes folders of the node into volumes. Kubernetes' own hostpath provisioner cannot stand in for it:
// its folders belong to root, and a hostPath volume takes no fsGroup, so a pod that is not root could never write.
// A `local` volume takes an fsGroup, as a disk in a cloud does.
type volumeProvisioner struct {
	client kubernetes.Interface
	root   string
}

func runVolumeProvisioner() {
	flags := flag.NewFlagSet("volume-provisioner", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	root := flags.String("root", "", "the folder that the volumes lie in")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil || *root == "" {
		fmt.Fprintln(os.Stderr, "usage: volume-provisioner --kubeconfig FILE --root FOLDER:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	provisioner := volumeProvisioner{client: kubernetes.NewForConfigOrDie(config), root: *root}
	for ctx.Err() == nil {
		if err := provisioner.pass(ctx); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "a pass over claims and volumes failed and is repeated")
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (p volumeProvisioner) pass(ctx context.Context) error {
	claims, err := p.client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		wanted := claim.Spec.VolumeName == "" && claim.Annotations[provisionerOfClaim] == provisionerName
		if node := claim.Annotations[selectedNode]; wanted && node != "" && claim.DeletionTimestamp == nil {
			if err := p.provision(ctx, claim, node); err != nil {
				return err
			}
		}
	}
	volumes, err := p.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for _, volume := range volumes.Items {
		released := volume.Status.Phase == core.VolumeReleased && volume.Annotations[provisionerOfVolume] == provisionerName
		if released && volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete {
			if err := p.remove(ctx, volume); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p volumeProvisioner) provision(ctx context.Context, claim core.PersistentVolumeClaim, node string) error {
	class, err := p.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, meta.GetOptions{})
	if err != nil {
		return err
	}
	name := "pvc-" + string(claim.UID)
	if _, err := p.client.CoreV1().PersistentVolumes().Get(ctx, name, meta.GetOptions{}); err == nil {
		return nil // made in an earlier pass: the controller manager is about to bind it
	}
	capacity := claim.Spec.Resources.Requests[core.ResourceStorage]
	folder := filepath.Join(p.root, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if class.Parameters["medium"] == "Memory" {
		// The one medium whose size the kernel keeps without a disk of its own: writes past it meet "no space left".
		if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", capacity.Value())); err != nil {
			return err
		}
	}
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionerOfVolume: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: capacity},
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			NodeAffinity:                  onNode(node),
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
		},
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	klog.InfoS("volume made", "volume", name, "claim", klog.KObj(&claim), "bytes", capacity.Value())
	return err
}

func onNode(name string) *core.VolumeNodeAffinity {
	requirement := core.NodeSelectorRequirement{
		Key: "kubernetes.io/hostname", Operator: core.NodeSelectorOpIn, Values: []string{name},
	}
	terms := []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{requirement}}}
	return &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: terms}}
}

func (p volumeProvisioner) remove(ctx context.Context, volume core.PersistentVolume) error {
	folder := filepath.Join(p.root, volume.Name)
	if err := syscall.Unmount(folder, 0); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
		return err // EINVAL: not a mount; busy: kubelet still holds it, and the next pass tries again
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	klog.InfoS("volume removed", "volume", volume.Name)
	return p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
}
