"""MTA4DPR and its baselines: what students are trained on, by which losses, in which rounds.

rounds              Algorithm 1                     training_folder     its files, and how it goes on
queries             training queries and D_eval     mining, compare     rankings of the corpus
draws, groups       GenDataset                      scorers, pairs      teachers and assistants; kept scores of pairs
trainer, gradients  one round's steps               policy              the policy that rl_ta learns
strategies          the strategies                  strategy, step, terms   what a strategy is, sees and returns
losses, distributions, selection    mathematics, which can be imported alone
"""
