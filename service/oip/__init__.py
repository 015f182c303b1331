"""The Open Inference Protocol v2 (REST, binary tensor extension): the operations as models with tensors."""
