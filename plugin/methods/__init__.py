"""The methods: one file each, in the order of diffusers' hooks: config, hook, `apply_*`."""
