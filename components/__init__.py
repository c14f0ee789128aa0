"""Pipeline steps as KFP components: decode the contract, call one function, record what happened."""
