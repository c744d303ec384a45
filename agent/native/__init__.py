"""Docker-native networks: addresses for `docker run --network`, and the Docker networks themselves."""
