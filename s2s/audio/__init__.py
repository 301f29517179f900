"""Files to waveforms to features: read, resample, filterbanks, normalisation, augmentation."""
