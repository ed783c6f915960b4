"""Messages of the contract to the data of `_model`."""
