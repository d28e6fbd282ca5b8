"""Makes the appliance: a card image, its RAUC bundles and the Debian package. Standard library only, so that a fresh
Debian needs nothing but the programs that `programs.py` names."""
