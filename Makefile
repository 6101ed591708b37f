# The commands of the house. `make oracles`: the newest runc and crun, to compare with, into target/oracles.
.PHONY: oracles

oracles:
	tests/oracles.sh
