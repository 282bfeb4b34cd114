"""`python -m vllm_operator.crd` prints the CustomResourceDefinition."""

import sys

from vllm_operator.crd import crd_yaml

sys.stdout.write(crd_yaml())
