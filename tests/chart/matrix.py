"""Values that the chart is rendered with: what people set, and every feature on and off."""

from typing import Any

GATEWAY = {"name": "public", "namespace": "gateways", "sectionName": "https"}

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything off": {
        "edge": {
            "replicas": 1,
            "podDisruptionBudget": {"enabled": False},
            "settings": {"auth": "off"},
            "topologySpread": [],
        },
        "generator": {"podDisruptionBudget": {"enabled": False}, "topologySpread": []},
        "operator": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "valkey": {"bundled": {"persistence": {"enabled": False}}},
    },
    "everything on": {
        "nameOverride": "streams",
        "labels": {"team": "reading"},
        "image": {"registry": "registry.example.org/lore/", "pullSecrets": ["pull"]},
        "settings": {"logLevel": "debug", "retentionS": 7200},
        "edge": {
            "image": {"tag": "sha256:" + "a" * 64},
            "settings": {
                "queueLimit": 1_048_576,
                "jwtIssuer": "https://id.example.org",
                "jwtAudience": "lore",
                "jwtJwks": "https://id.example.org/keys",
            },
            "env": [{"name": "TZ", "value": "UTC"}],
            "preStopSleepSeconds": 5,
            "podAnnotations": {"example.org/note": "1"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
        },
        "generator": {
            "modelCache": {"enabled": True, "storageClass": "fast", "accessMode": "ReadWriteMany"},
            "shmSize": "1Gi",
            "preStopSleepSeconds": 2,
            "podAnnotations": {"example.org/note": "1"},
            "priorityClassName": "high",
            "command": ["lore-generator"],
        },
        "operator": {
            "policy": {"report": {"waitingAfterSeconds": 30}},
            "priorityClassName": "high",
        },
        "crds": {"keep": False},
        "exposure": {
            "type": "ingress",
            "hosts": ["a.example.org", "b.example.org"],
            "annotations": {"example.org/issuer": "ours"},
            "ingress": {
                "className": "nginx",
                "tls": [{"hosts": ["a.example.org"], "secretName": "tls"}],
            },
        },
        "valkey": {
            "bundled": {"config": "io-threads 2\nhz 20", "persistence": {"storageClass": "fast"}}
        },
        "networkPolicy": {
            "edgeFrom": [{"namespaceSelector": {"matchLabels": {"gateway": "yes"}}}],
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"monitoring": "yes"}}}],
            "dnsTo": [{"namespaceSelector": {}}],
            "tracingTo": [{"namespaceSelector": {"matchLabels": {"monitoring": "yes"}}}],
            "edgeEgress": [{"ports": [{"port": 5000}]}],
            "generatorEgress": [{"ports": [{"port": 5000}]}],
        },
        "metrics": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Lore"}},
        },
        "tracing": {"endpoint": "http://collector.monitoring:4318", "ratio": 0.01},
    },
    "llama.cpp in the pod": {
        "generator": {
            "engine": {
                "type": "llamacpp",
                "image": "registry.example.org/llama.cpp:server",
                "args": ["--model", "/models/a.gguf", "--port", "8000"],
                "env": [{"name": "HF_TOKEN", "value": "token"}],
                "resources": {"requests": {"cpu": 4}, "limits": {"memory": "8Gi"}},
            },
            "modelCache": {"enabled": True},
            "shmSize": "1Gi",
        },
    },
    "vLLM elsewhere": {
        "generator": {
            "engine": {
                "type": "vllm",
                "url": "https://a.vllm.example.org,http://b.vllm:8000",
                "existingSecret": "mine",
                "caCertificate": True,
            },
            "settings": {"model": "Qwen/Qwen3-8B"},
        },
    },
    "Gateway API": {
        "exposure": {
            "type": "httproute",
            "hosts": ["lore.example.org"],
            "httpRoute": {"parentRefs": [GATEWAY]},
        }
    },
    "external Valkey": {
        "valkey": {
            "bundled": {"enabled": False},
            "external": {
                "url": "valkeys://valkey.example.org:6380/1",
                "ports": [6380],
                "tls": {"existingSecret": "ca"},
            },
        },
        "networkPolicy": {"valkeyTo": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    },
    "sentinels, TLS both ways": {
        "valkey": {
            "bundled": {"enabled": False},
            "external": {
                "url": "valkeys+sentinel://a.example.org,b.example.org/mine?ssl_check_hostname=no",
                "ports": [6379, 26379],
                "tls": {"existingSecret": "tls", "clientCertificate": True},
            },
        },
    },
    "cluster": {
        "valkey": {
            "bundled": {"enabled": False},
            "external": {
                "url": "valkey+cluster://lore@a.example.org:7000,b.example.org:7001",
                "ports": [7000, 7001, 7002],
            },
        },
    },
    "external Valkey, a user for each component": {
        "valkey": {
            "bundled": {"enabled": False},
            "external": {
                "existingSecret": "urls",
                "keys": {
                    "edge": "edge-url",
                    "generator": "generator-url",
                    "operator": "operator-url",
                },
            },
        }
    },
    "KEDA": {"scaling": {"type": "keda"}, "metrics": {"podMonitor": {"enabled": True}}},
    "KEDA to zero, with a Prometheus that wants a token": {
        "scaling": {
            "type": "keda",
            "edge": {"enabled": False},
            "generator": {"minReplicas": 0},
            "keda": {"triggerAuthentication": "prometheus", "authModes": "bearer"},
        }
    },
    "HPA to zero": {
        "scaling": {"type": "hpa", "hpa": {"toZero": True}, "generator": {"minReplicas": 0}}
    },
    "HPA": {"scaling": {"type": "hpa", "edge": {"cpuUtilization": 0}}},
    "GPU": {
        "generator": {
            "image": {"tag": "0.1.0-cuda"},
            "replicas": 2,
            "settings": {
                "model": "Qwen/Qwen3-8B",
                "deviceMap": "auto",
                "slots": 64,
                "dtype": "bfloat16",
            },
            "resources": {
                "requests": {"cpu": 4},
                "limits": {"nvidia.com/gpu": 2, "memory": "64Gi"},
            },
            "runtimeClassName": "nvidia",
            "shmSize": "8Gi",
            "nodeSelector": {"nvidia.com/gpu.present": "true"},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ],
            "modelCache": {"enabled": True, "existingClaim": "models"},
            "env": [
                {
                    "name": "HF_TOKEN",
                    "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}},
                }
            ],
            "startupSeconds": 1800,
        }
    },
    "a Secret of one's own": {"secrets": {"existing": "mine"}},
    "a definition that is there": {"crds": {"install": False}},
}
