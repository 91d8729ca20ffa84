from mta4dpr.cli import main

main()
