"""The reconciler of Subnets: observe, plan, execute, write the status; and their CustomResourceDefinition."""
