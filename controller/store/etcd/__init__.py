"""The store on etcd, spoken to by our own adapter (docs/decisions/0001-own-etcd-adapter.md)."""

from controller.store.etcd.channel import EtcdSettings
from controller.store.etcd.store import EtcdStore

__all__ = ["EtcdSettings", "EtcdStore"]
